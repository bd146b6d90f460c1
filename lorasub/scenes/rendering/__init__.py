"""A batched ray caster in torch: a view of a scene description, exact in depth and points."""
