"""Writers for other people's tools: point clouds, depth files, cameras. Every file appears whole or not at all."""
