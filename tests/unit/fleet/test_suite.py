"""What the suite of a master found on hosts."""

from xml.etree import ElementTree

from saltern.fleet import suite

REPORT = """
<testsuites><testsuite>
<testcase name="test_it_runs[salt://app1]"/>
<testcase name="test_it_answers[salt://app1]"><failure message="AssertionError: 1&#10;2"/></testcase>
<testcase name="test_it_is_asked[salt://app1]"><error message="failed on setup"/></testcase>
<testcase name="test_redis[salt://app1]"><skipped message="no role"/></testcase>
</testsuite></testsuites>
"""


def test_what_the_suite_found_is_counted_and_named():
    found = suite.outcome(ElementTree.fromstring(REPORT))
    failed = ["test_it_answers: AssertionError: 1", "test_it_is_asked: failed on setup"]
    assert found == suite.Outcome(passed=1, failed=failed, skipped=1)
