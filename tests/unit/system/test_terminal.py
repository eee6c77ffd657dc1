"""Text of other users is made safe for an operator's terminal."""

import pytest

from saltern.system import terminal

SHOWN = {
    "plain text": ("GET /ä 200", "GET /ä 200"),
    "tabs and newlines": ("a\tb\nc", "a\tb\nc"),
    "a sequence that clears the screen": ("\x1b[2J", "\\x1b[2J"),
    "the other C0": ("\x00\x07\x08\x0b\x0c\r\x1f", "\\x00\\x07\\x08\\x0b\\x0c\\x0d\\x1f"),
    "DEL and C1": ("\x7f\x80\x85\x9b31m\x9f", "\\x7f\\x80\\x85\\x9b31m\\x9f"),
    "what turns the writing": ("\u202a\u202e\u2066\u2069", "\\u202a\\u202e\\u2066\\u2069"),
    "separators of lines": ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    "a byte that is no UTF-8, kept": (b"\x9b".decode("utf-8", "surrogateescape"), "\\x9b"),
    "what has no width": ("ro\u200bot\u200c\u200d\u2060\ufeff", "ro\\u200bot\\u200c\\u200d\\u2060\\ufeff"),
    "marks of the direction": ("\u200e\u200f\u061c\u202c\u2067", "\\u200e\\u200f\\u061c\\u202c\\u2067"),
    "a hyphen that shows only at the end of a line": ("a\u00adb", "a\\xadb"),
    "tags, and other characters of format": ("\U000e0041\u0600\U0001d173", "\\U000e0041\\u0600\\U0001d173"),
    "what is private": ("\ue000\U000f0000\U0010fffd", "\\ue000\\U000f0000\\U0010fffd"),
    "what is unassigned": ("\u0378\ufffe\U000dffff", "\\u0378\\ufffe\\U000dffff"),
    "blanks that count as letters": ("\u3164\u115f\u034f\u2800\ufe0f", "\\u3164\\u115f\\u034f\\u2800\\ufe0f"),
    "other scripts and signs": (
        "日本 עברית नमस्ते e\u0301 → 🎉 a\u00a0b\u3000c",
        "日本 עברית नमस्ते e\u0301 → 🎉 a\u00a0b\u3000c",
    ),
    "half of a character": ("\ud800", "\\ud800"),
}


@pytest.mark.parametrize("text, shown", SHOWN.values(), ids=SHOWN)
def test_what_would_command_a_terminal_is_shown(text, shown):
    assert terminal.escaped(text) == shown
    assert terminal.shown({text: [text, (text, 1, None)]}) == {shown: [shown, [shown, 1, None]]}
