"""One recipe from data to champion: what is left to do, every step, and what the data must be for it."""
