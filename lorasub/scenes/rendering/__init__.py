"""A batched ray caster: a view of a scene description, exact in depth and points."""
