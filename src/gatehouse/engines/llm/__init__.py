"""Text generation on the CPU: our scheduler, blocks and sampler over graphs that we build."""
