"""The Xet formats: hashes, xorbs, shards."""
