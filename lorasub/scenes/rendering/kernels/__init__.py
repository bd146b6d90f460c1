"""The renderer as one fused program per pixel, compiled for the CPU or a GPU by NVIDIA Warp."""
