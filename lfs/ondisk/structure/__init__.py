"""How a structure is declared by its fields, and sealed by a checksum inside it."""
