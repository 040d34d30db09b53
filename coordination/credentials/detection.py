"""Recognises values that look like secrets: known formats of tokens, and random text under names of secrets.

False warnings make people ignore all warnings. So text counts as random only under a name that ends like
`NPM_TOKEN`, and only if it is long, mixed, and no path, address, placeholder or reference.
"""

from __future__ import annotations

import math
import re
from collections import Counter

FORMATS = (
    ("a GitHub token", r"gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}"),
    ("a GitLab token", r"gl(?:pat|ptt|dt|rt|cbt|soat|ffct|agent)-[A-Za-z0-9_.-]{20,}"),
    ("an AWS access key", r"(?:AKIA|ASIA)[A-Z2-7]{16}"),
    ("a Slack token", r"xox[abeoprs]-[A-Za-z0-9-]{20,}|xapp-\d-[A-Za-z0-9-]{20,}"),
    ("a Stripe key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{20,}|whsec_[A-Za-z0-9+/=]{24,}"),
    ("a Google key", r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{30,}|GOCSPX-[A-Za-z0-9_-]{28}"),
    ("an npm token", r"npm_[A-Za-z0-9]{36}"),
    ("a PyPI token", r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    ("a key of a model provider", r"sk-(?:ant-|proj-|svcacct-|or-v1-)[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{40,}"),
    ("a Hugging Face token", r"hf_[A-Za-z0-9]{34,}"),
    ("a Docker token", r"dckr_[op]at_[A-Za-z0-9_-]{27,}"),
    ("a SendGrid key", r"SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}"),
    ("a DigitalOcean token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("a Vault token", r"hv[bsr]\.[A-Za-z0-9_-]{24,}"),
    ("an Atlassian token", r"ATATT3[A-Za-z0-9_=-]{50,}"),
    ("a JSON Web Token", r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----|AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
)
_FORMATS = re.compile("|".join(f"(?:{pattern})" for _, pattern in FORMATS))
_EACH = tuple((words, re.compile(pattern)) for words, pattern in FORMATS)
_SECRET_NAME = re.compile(
    r"(?:^|_)(TOKEN|PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|APIKEY|KEY|CREDENTIAL|PAT)S?$"
)
_HARMLESS_NAME = re.compile(
    r"(?:^|_)(PUBLIC|PUB|CACHE|SORT|PRIMARY|FOREIGN|PARTITION|ROUTING|IDEMPOTENCY|OBJECT|S3|LOOKUP|GROUP"
    r"|MAX|MIN|NUM|COUNT|STOP|PAD|EOS|BOS|SITE|FINGERPRINT|DEDUP|ISSUE|PROJECT)_"
)
_PLACEHOLDER = re.compile(
    r"\$|\{\{|<[^>]*>|^%|\*{3}|x{4}|\.{3}|example|change_?me|dummy|placeholder|redacted|replace|insert|"
    r"your[-_ ]|todo|sample|default|local|fake|test|none|null|undefined",
    re.IGNORECASE,
)
_ADDRESS_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^/\s:@]*:([^/\s@]+)@([^/\s:?#]+)")
_ONE_WORD = re.compile(r"[\x21-\x7e]+")
_MIXED = re.compile(r"(?=[A-Za-z0-9]{8})[A-Za-z0-9]*?(?:[A-Za-z]\d+[A-Za-z]|\d[A-Za-z]+\d)")
"""Letters and digits that alternate more often than in a word with a number, such as `flow-v2`."""
_HEX = re.compile(r"[0-9a-fA-F-]+")
SHORTEST_RANDOM = 16
SHORTEST_PASSWORD = 8
BITS_A_CHARACTER, BITS_OF_HEX = 3.3, 2.8
"""Minimum entropy per character of random text with 16 characters."""


def without_known_formats(text: str) -> str:
    """Return the text with *** in place of each token of a known format."""
    return _FORMATS.sub("***", text)


def known_format(text: str) -> str:
    """Return the kind of token that the text contains, as `a GitHub token`; empty if none is recognised."""
    if not _FORMATS.search(text):
        return ""
    return next(words for words, pattern in _EACH if pattern.search(text))


def looks_secret(name: str, value: str) -> str:
    """Return the kind of secret that a variable's value looks like, as `a GitHub token`; empty for a harmless
    value.
    """
    if found := known_format(value):
        return found
    if _holds_password(value):
        return "an address with a password"
    upper = name.upper()
    secret_name = _SECRET_NAME.search(upper)
    if not secret_name or _HARMLESS_NAME.search(upper) or not _ONE_WORD.fullmatch(value):
        return ""
    if _PLACEHOLDER.search(value) or _is_path(value):
        return ""
    if secret_name[1] in ("PASSWORD", "PASSWD", "PASSPHRASE", "PWD") and _is_password(value):
        return "a password"
    return "a random secret" if _is_random(value) else ""


def _holds_password(value: str) -> bool:
    found = _ADDRESS_PASSWORD.search(value)
    if found is None or _PLACEHOLDER.search(found[1]) or "." not in found[2] or found[2].startswith("127."):
        return False
    return _is_random(found[1]) or _is_password(found[1])


def _is_path(value: str) -> bool:
    return value.startswith(("/", "~", "./", "../", "@")) or "://" in value or value.count("/") > 3


def _is_password(value: str) -> bool:
    kinds = (str.islower, str.isupper, str.isdigit)
    mixed = sum(any(kind(letter) for letter in value) for kind in kinds)
    return len(value) >= SHORTEST_PASSWORD and mixed + (not value.isalnum()) >= 3


def _is_random(value: str) -> bool:
    if len(value) < SHORTEST_RANDOM or not _MIXED.search(value):
        return False
    return _entropy(value) >= (BITS_OF_HEX if _HEX.fullmatch(value) else BITS_A_CHARACTER)


def _entropy(text: str) -> float:
    """Return Shannon's entropy of the characters, in bits for each."""
    shares = [number / len(text) for number in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
