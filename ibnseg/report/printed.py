"""Numbers as people print them: '36,6 %', '36.60 ± 0.21'. Their decimals say how exact they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

ABSENT = ('', '-', '–', '—', 'n/a', 'na', 'nan')
_NUMBER = re.compile(r'([+-]?\d{1,3}(?:[.,]\d{1,12})?)\s*%?(?:\s*(?:±|\+/-)\s*(.*))?')


@dataclass(frozen=True)
class Printed:
    """A number in percent with the decimals it was printed with, and its spread, if any."""

    value: Decimal
    spread: Decimal | None = None

    @classmethod
    def read(cls, text: str) -> 'Printed | None':
        """Read a cell; None where it says that there is no number.

        Takes a percent sign, a decimal comma and '± spread'. Raises ValueError for other text, and
        for a number outside 0 to 100.
        """
        text = text.strip()
        if text.lower() in ABSENT:
            return None
        match = _NUMBER.fullmatch(text)
        if not match:
            raise ValueError(f'{text!r:.40} is no number in percent')
        value = Decimal(match[1].replace(',', '.'))
        spread = cls.read(match[2]) if match[2] else None
        if not 0 <= value <= 100:
            raise ValueError(f'{text!r:.40} is not between 0 and 100 percent')
        return cls(value, spread and spread.value)

    @property
    def half_unit(self) -> Decimal:
        """By how much rounding may have changed the value."""
        return Decimal(1).scaleb(int(self.value.as_tuple().exponent)) / 2


def mean(columns: Sequence[Printed]) -> Decimal:
    return sum((one.value for one in columns), Decimal(0)) / len(columns)


def follows(average: Printed, columns: Sequence[Printed]) -> bool:
    """Whether `average` may be that of the `columns`: by no more off than rounding explains."""
    slack = average.half_unit + sum((one.half_unit for one in columns), Decimal(0)) / len(columns)
    return abs(average.value - mean(columns)) <= slack
