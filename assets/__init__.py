"""What exists: Dagster assets and checks, thin, one file for each stage."""
