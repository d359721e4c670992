"""Video files: listing, hash, probe, decoding in processes with a deadline, frames into the
store.
"""
