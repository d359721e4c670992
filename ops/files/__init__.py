"""Files by fsspec URI: atomic and conditional writes, listings, local copies."""
