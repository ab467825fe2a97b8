"""Result of comparing one piece with nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Largest difference found.

    Args:
        what: What was compared.
        difference: The largest difference; its unit depends on `what`.
        limit: Largest difference that counts as equal.
    """

    what: str
    difference: float
    limit: float

    @property
    def ok(self) -> bool:
        """True if the difference is within the limit."""
        return self.difference <= self.limit

    @property
    def line(self) -> str:
        """Return the comparison as one line."""
        return f"{'equal' if self.ok else 'DIFFERENT':9}  {self.difference:9.2g} (limit {self.limit:.0e})  {self.what}"
