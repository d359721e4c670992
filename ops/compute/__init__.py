"""Where work runs: killable processes, a Ray cluster, and what is shown of its progress."""
