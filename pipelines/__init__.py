"""What runs and when: definitions, jobs, schedule and sensor, and the `kinograph` command."""
