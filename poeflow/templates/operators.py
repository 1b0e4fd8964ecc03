"""Binary operators with a bound on what they make."""

from typing import Final

from poeflow.templates.budget import Budget, OverBudgetError, bounded

MAX_BITS: Final = 1_024
"""Up to here arithmetic, and writing a number down, takes a microsecond or two."""
_SEQUENCES: Final = (str, bytes, list, tuple, dict)


def check_operands(operator: str, left: object, right: object, budget: Budget) -> None:
    """Refuse an operation whose result could be huge. Raises `TypeError` or `OverBudgetError`."""
    if isinstance(left, _SEQUENCES) or isinstance(right, _SEQUENCES):
        if operator != "+":
            raise TypeError(f"{operator} works on numbers only; join texts with ~")
        _check_sum(left, right, budget)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if operator == "**":
            bits = left.bit_length() * max(right, 1)
        if bits > MAX_BITS:
            raise OverBudgetError("a number would have over 300 digits")


def _check_sum(left: object, right: object, budget: Budget) -> None:
    if isinstance(left, str) and isinstance(right, str):
        bounded(len(left) + len(right))
    elif isinstance(left, list) and isinstance(right, list):
        budget.walk(left, right)
    else:
        kinds = f"{type(left).__name__} and {type(right).__name__}"
        raise TypeError(f"+ cannot add {kinds}; join texts with ~")
