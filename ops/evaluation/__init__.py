"""What a trained model scores on a frozen set, what is kept of it, and the inputs of the gate."""
