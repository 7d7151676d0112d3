"""Chat templates that try to leave the sandbox, and some that never end or fill the memory.

The ways out are those published for Jinja2 (CVE-2024-34359, CVE-2024-56326, CVE-2024-56201, CVE-2025-27516 and
collections of server-side template injection). Each makes the canary where there is no sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import careless
from hostile_ground import REFUSED, Case, Ground

# {c} is the canary's path in quotes.
_OS = "__import__('os').mkdir({c})"
ESCAPES = {
    "globals of cycler": "{{{{ cycler.__init__.__globals__.os.mkdir({c}) }}}}",
    "globals of joiner": "{{{{ joiner.__init__.__globals__.os.mkdir({c}) }}}}",
    "globals of namespace": "{{{{ namespace.__init__.__globals__.os.mkdir({c}) }}}}",
    "builtins of cycler": "{{{{ cycler.__init__.__globals__.__builtins__." + _OS + " }}}}",
    "lipsum": "{{{{ lipsum.__globals__['os'].mkdir({c}) }}}}",
    "lipsum by attr": "{{{{ (lipsum|attr('__globals__'))['os'].mkdir({c}) }}}}",
    "attr in pieces": "{{{{ (lipsum|attr('__glo' ~ 'bals__'))['os'].mkdir({c}) }}}}",
    "attr with escapes": "{{{{ (lipsum|attr('\\x5f\\x5fglobals\\x5f\\x5f'))['os'].mkdir({c}) }}}}",
    "self": "{{{{ self.__init__.__globals__.__builtins__." + _OS + " }}}}",
    "self by item": "{{{{ self['__init__']['__globals__']['__builtins__']['__import__']('os').mkdir({c}) }}}}",
    "subclasses": "{{% for k in ''.__class__.__mro__[1].__subclasses__() %}}{{% if k.__name__ == 'catch_warnings' %}}"
    "{{{{ k.__init__.__globals__['__builtins__']['__import__']('os').mkdir({c}) }}}}{{% endif %}}{{% endfor %}}",
    "subclasses of a list": "{{% for k in [].__class__.__base__.__subclasses__() %}}"
    "{{% if 'warning' in k.__name__ and k.__module__ == 'warnings' and k.__init__.__globals__ %}}"
    "{{{{ k.__init__.__globals__['__builtins__']." + _OS + " }}}}{{% endif %}}{{% endfor %}}",
    "format_map": "{{% set f = '{{0.__init__.__globals__[os]}}'.format %}}{{{{ f(cycler) }}}}"
    "{{{{ cycler.__init__.__globals__['os'].mkdir({c}) }}}}",
    "format through map": "{{{{ ['{{0.__init__.__globals__}}'|attr('format')]|map('string')|list }}}}"
    "{{{{ (cycler|attr('__init__')).__globals__.os.mkdir({c}) }}}}",
    "attr through map": "{{{{ ([lipsum]|map(attribute='__globals__')|list)[0].os.mkdir({c}) }}}}",
    "attr through select": "{{% for g in [cycler]|map(attribute='__init__.__globals__') %}}{{{{ g.os.mkdir({c}) }}}}"
    "{{% endfor %}}",
    "sort by attribute": "{{{{ [cycler, joiner]|sort(attribute='__init__.__globals__.os.mkdir')|first }}}}"
    "{{{{ cycler.__init__.__globals__.os.mkdir({c}) }}}}",
    "groupby": "{{% for key, some in [cycler]|groupby('__init__.__globals__.os.name') %}}"
    "{{{{ some[0].__init__.__globals__.os.mkdir({c}) }}}}{{% endfor %}}",
    "a macro's function": "{{% macro m() %}}{{% endmacro %}}"
    "{{{{ m._func.__globals__['__builtins__'].__import__('os').mkdir({c}) }}}}",
    "the environment of a macro": "{{% macro m() %}}{{% endmacro %}}"
    "{{{{ m._environment.__init__.__globals__['__builtins__'].__import__('os').mkdir({c}) }}}}",
    "the context of the template": "{{{{ self._TemplateReference__context.cycler"
    ".__init__.__globals__.os.mkdir({c}) }}}}",
    "messages": "{{{{ messages.__class__.__base__.__subclasses__.__self__.__init__ }}}}"
    "{{{{ messages.append.__self__.__class__.__mro__[1].__subclasses__() | length }}}}"
    "{{{{ lipsum.__globals__.os.mkdir({c}) }}}}",
}
BOMBS = {
    "loops in loops": "{{% for a in range(99999) %}}{{% for b in range(99999) %}}{{% endfor %}}{{% endfor %}}",
    "a power": "{{{{ 7 ** (7 ** 12) }}}}",
    "1.5 GB of one letter": "{{% set x = 'x' * 1500000000 %}}{{{{ x | length }}}}",
    "lists of lists": "{{% set n = namespace(x=['x' * 1000]) %}}{{% for i in range(40) %}}"
    "{{% set n.x = n.x + n.x %}}{{% endfor %}}{{{{ n.x | length }}}}",
    "a macro of itself": "{{% macro f(n) %}}{{{{ f(n + 1) ~ f(n + 2) }}}}{{% endmacro %}}{{{{ f(0) }}}}",
    "a width of a billion": "{{{{ '%1000000000d' % 1 }}}}",
    "indentation of a text that grows": "{{% set n = namespace(x='a\\n' * 1000) %}}{{% for i in range(60) %}}"
    "{{% set n.x = n.x | indent(1000, true) %}}{{% endfor %}}{{{{ n.x }}}}",
}


def _template(source: str) -> Callable[[Ground], list[str]]:
    def make(ground: Ground) -> list[str]:
        path = ground.work / "stranger.jinja"
        path.write_text(source.format(c=repr(str(ground.canary))))
        return ground.chat(template=path)

    return make


def _of_model(source: str) -> Callable[[Ground], list[str]]:
    """The same as the model's own template."""

    def make(ground: Ground) -> list[str]:
        folder = ground.model("llama")
        (folder / "chat_template.jinja").write_text(source.format(c=repr(str(ground.canary))))
        return ground.chat(folder)

    return make


def _fire(ground: Ground) -> None:
    careless.render(next(Path(ground.work).rglob("*.jinja")).read_text())


CASES: tuple[Case, ...] = (
    *(
        Case("template", name, (_of_model if i % 5 == 4 else _template)(source),
             "stranger-llama" if i % 5 == 4 else "stranger.jinja", REFUSED, _fire, ("unsandboxed-templates",))
        for i, (name, source) in enumerate(ESCAPES.items())
    ),
    *(
        Case("template", name, _template(source), "stranger.jinja", REFUSED, None, ("patient-with-templates",), i > 0)
        for i, (name, source) in enumerate(BOMBS.items())
    ),
)  # fmt: skip
