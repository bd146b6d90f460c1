"""Synthetic scenes as data, the samplers that draw them, and the ray caster that looks at them."""
