"""What Salt's commands do once where Salt would do it in each run."""

import traceback

import jinja2
import pytest
from jinja2.sandbox import SandboxedEnvironment
from salt.utils.jinja import SaltCacheLoader
from salt.utils.optsdict import OptsDict

from bootstrap import swift


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    """The directory of the compiled templates."""
    monkeypatch.setattr(swift, "KEPT", tmp_path / "templates")
    return tmp_path / "templates"


@pytest.fixture
def compiled(monkeypatch):
    """The templates that were compiled, and not found."""
    texts = []
    compile_ = jinja2.Environment.compile

    def counted(environment, source, *arguments):
        texts.append(source)
        return compile_(environment, source, *arguments)

    monkeypatch.setattr(jinja2.Environment, "compile", swift.keeping(counted))
    return texts


class Loader(jinja2.BaseLoader):
    """What Salt gives an environment: it knows whether a file of the pillar is rendered."""

    def __init__(self, pillar_rend):
        self.pillar_rend = pillar_rend


STATES = Loader(False)


def rendered(text, loader=STATES, **options):
    """Render a text with an environment of its own, as Salt does."""
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, loader=loader, **options)
    return environment.from_string(text).render(name="é")


TEXT = "{% for one in [1, 2] %}\n{{ name }} {{ one }}\n{% endfor %}"


def test_a_template_is_compiled_once(compiled):
    assert rendered(TEXT) == rendered(TEXT) == "\né 1\n\né 2\n"
    assert compiled == [TEXT]
    rendered("{{ name }}")
    assert compiled == [TEXT, "{{ name }}"]


@pytest.mark.parametrize("loader", [Loader(True), jinja2.DictLoader({}), None], ids=["pillar", "another", "none"])
def test_what_may_hold_a_secret_is_not_kept(compiled, kept, loader):
    assert rendered("{{ name }} secret", loader) == rendered("{{ name }} secret", loader) == "é secret"
    assert (len(compiled), kept.exists()) == (2, False)


def test_salt_says_which_files_are_the_pillar_s(tmp_path):
    options = {"cachedir": str(tmp_path), "file_client": "local", "file_roots": {}, "pillar_roots": {}}
    for is_pillar in (True, False):
        loader = SaltCacheLoader(options, "base", pillar_rend=is_pillar, _file_client=object())
        assert loader.pillar_rend is is_pillar


def test_what_the_environment_asks_for_counts(compiled):
    assert rendered(TEXT) != rendered(TEXT, trim_blocks=True) == "é 1\né 2\n"
    with pytest.raises(jinja2.TemplateSyntaxError, match="unknown tag 'do'"):
        rendered("{% do [] %}")
    assert rendered("{% do [] %}", extensions=["jinja2.ext.do"]) == ""


def test_a_mistake_is_told_each_time_and_by_its_line(compiled):
    for _ in range(2):
        with pytest.raises(jinja2.TemplateSyntaxError) as told:
            rendered("{{ name }}\n{% if %}")
        assert told.value.lineno == 2
    for _ in range(2):
        with pytest.raises(jinja2.UndefinedError, match="'missing' is undefined") as undefined:
            rendered("{{ name }}\n{{ missing }}")
        assert traceback.extract_tb(undefined.tb)[-1].lineno == 2


def test_a_file_that_is_cut_off_is_made_anew(compiled, kept):
    rendered(TEXT)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert rendered(TEXT) == "\né 1\n\né 2\n"
    assert (len(compiled), file.read_bytes()) == (2, whole)


def test_without_a_place_to_keep_it_a_template_is_rendered(compiled, kept):
    kept.write_text("no directory")
    assert rendered(TEXT) == rendered(TEXT) == "\né 1\n\né 2\n"
    assert len(compiled) == 2


def test_templates_that_nobody_asks_for_any_more_have_a_bound(compiled, kept, monkeypatch):
    monkeypatch.setattr(swift, "MOST", 3)
    for number in range(8):
        rendered(f"{{{{ name }}}} {number}")
        assert len(list(kept.iterdir())) <= 3


@pytest.mark.parametrize("base", [{}, {"id": "web1"}])
def test_options_are_true_where_there_are_any(base):
    options = OptsDict.from_dict(base)
    for one in (options, OptsDict.from_parent(options), OptsDict.from_parent(OptsDict.from_parent(options))):
        assert swift.filled(one) == bool(one) == bool(base)
    child = OptsDict.from_parent(options)
    child["grains"] = {}
    assert swift.filled(child)
