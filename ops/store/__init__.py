"""The store: Zarr arrays of frames and features, ledgers, leases, the training reader, upkeep."""
