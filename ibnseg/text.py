"""Text from files of strangers, made harmless for terminals, spreadsheets and Markdown."""

import unicodedata


def clean(text: str, limit: int | None = None) -> str:
    r"""Make control, bidirectional and line-breaking characters visible as `\x1b`; cut at `limit`.

    Terminals, spreadsheets and Markdown all act on some of them.
    """
    acting = {c for c in text if unicodedata.category(c) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')}
    text = text.translate({ord(c): c.encode('unicode_escape').decode() for c in acting})
    return text if limit is None or len(text) <= limit else text[: limit - 1] + '…'
