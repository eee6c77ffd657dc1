"""The tables and lines that show releases to people."""

from saltern.releases import report


def test_values_are_masked_the_longest_first_and_short_words_left():
    environ = {"KEY": "s3cret-s3cret", "URL": "postgres://u:s3cret-s3cret@h/d", "DEBUG": "1", "EMPTY": ""}
    text = "at postgres://u:s3cret-s3cret@h/d with s3cret-s3cret: error 1"
    assert report.masked(text, environ) == "at <URL> with <KEY>: error 1"


def test_a_table_tells_why_and_announces_no_lines():
    why = "v2 was refused at the step health: web.1 ended; v1 goes on serving"
    assert report.reason_of(f"refused: {why}. shop[web.1] logged last:") == why
    assert report.reason_of(f"refused: {why}") == why
    assert (report.reason_of("serving"), report.reason_of("")) == ("", "")


def test_a_password_is_masked_where_it_stands_alone_too():
    environ = {"DATABASE_URL": "postgres://u:p%40ssw0rd-123@h/d"}
    assert report.masked('for user "u": p@ssw0rd-123 or p%40ssw0rd-123', environ) == (
        'for user "u": <DATABASE_URL> or <DATABASE_URL>'
    )
