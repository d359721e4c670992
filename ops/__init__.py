"""The work: media, store, annotations, data, training, evaluation, tracking. Free of Dagster."""

import os

# OpenMP threads that wait by spinning eat the core that a neighbour needs: on a busy machine a step
# takes four times the processor time. Read once when torch is first imported, so it is set before
# anything here can import it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
