"""The F00D device server (seed 003): a device that acknowledges packets, or fails in the ways that devices do."""
