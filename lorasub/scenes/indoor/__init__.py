"""The preset ``indoor``: rooms seen from inside, shelves and desks from close by, and facades."""
