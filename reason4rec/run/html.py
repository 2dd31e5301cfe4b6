"""A page in one file: data in it that cannot end its script, and a policy under which only its own script runs."""

import base64
import hashlib
import json
import re


def as_json_in_html(data: object) -> str:
    """JSON that may stand in a script element: no character in it can end the element, and every one can be encoded."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def policy_of(template: str) -> str:
    """The security policy under which a template's own style and script run, and nothing else."""
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)[1] for tag in ("style", "script"))
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def filled(template: str, data: object) -> str:
    """A template with its policy, where it has a place for one, and its data."""
    # The data comes last, so that nothing in a review is taken for a place to fill.
    return template.replace("{POLICY}", policy_of(template), 1).replace("{DATA}", as_json_in_html(data), 1)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
