"""Checks of the name, the settings and the signatures of a step, when it is defined and when it is placed in a saga.

The checks look up the functions of a step once, so that a running saga does not look them up again.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, Final, TypedDict

from fsm_mediator.error_types import DefinitionError
from fsm_mediator.machine.parts import Callback, Kind
from fsm_mediator.retry import Retry, check_wait


class StepSettings(TypedDict, total=False):
    """The settings of a step except its name. The attributes of `Step` describe them."""

    retry: Retry | None
    compensation_retry: Retry | None
    timeout: float | None
    grace: float | None
    overtake: bool
    pivot: bool
    repeatable: bool
    in_doubt_on: type[BaseException] | tuple[type[BaseException], ...]
    no_effect_on: type[BaseException] | tuple[type[BaseException], ...]
    label: str | None


SETTINGS: Final = tuple(StepSettings.__annotations__)
"""The names of the settings of a step, except its name."""

VERBS: Final = ("execute", "compensate", "probe")
"""The names of the methods of a step that a mediator calls."""


def snake_case(name: str) -> str:
    """*name* in snake_case: ``charge_card`` for ``ChargeCard``, ``http_call`` for ``HTTPCall``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).strip("_").lower()


_NAME = re.compile(r"[^\W\d][\w-]*")


def check_name(what: str, name: Any) -> str:
    """Check that *name* can be part of a state's name, a path or an id. Returns the name.

    Raises:
        DefinitionError: The name is not allowed. *what* describes the named thing in the message.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 255:
        raise DefinitionError(
            f"{name!r} cannot be the name of {what}: a name begins with a letter or underscore, continues with "
            f"letters, digits, underscores and hyphens, and has at most 255 of them. "
            "Set another name with name= or .named(...)"
        )
    return name


_MISSPELT = {
    **dict.fromkeys(("compensation", "compensates", "rollback", "undo", "revert"), "compensate"),
    **dict.fromkeys(("run", "do", "executes", "invoke"), "execute"),
    "retries": "retry",
}


def refuse_misspelt(cls: type) -> None:
    """Refuse a step class with a misspelt method or setting, because a misspelt name would have no effect.

    Raises:
        DefinitionError: The class has a misspelt name.
    """
    for misspelt, meant in _MISSPELT.items():
        if misspelt in cls.__dict__ and meant not in cls.__dict__ and getattr(cls, meant, None) is None:
            raise DefinitionError(f"{cls.__qualname__} defines {misspelt!r}; in a step, that is called {meant!r}")
    for name, value in cls.__dict__.items():
        if (callable(value) and not isinstance(value, type)) or isinstance(value, classmethod):
            _refuse_near_miss(cls.__qualname__, name, VERBS, cls.__dict__)
        else:
            _refuse_near_miss(cls.__qualname__, name, SETTINGS, cls.__dict__)


def _refuse_near_miss(where: str, name: str, known: tuple[str, ...], beside: Mapping[str, Any]) -> None:
    """Raise a `DefinitionError` if *name* misspells a name in *known*.

    No error if the class also has the correct name. *beside*: the attributes of the class.
    """
    meant = _nearly(name, known)
    if meant is not None and meant not in beside:
        raise DefinitionError(
            f"{where} has {name!r}, which a step does not use; did you mean {meant!r}? "
            f"If this name is intended, give it a name that is less like {meant!r}"
        )


def _nearly(name: str, known: tuple[str, ...]) -> str | None:
    """The name in *known* that *name* misspells. None if *name* is known, or is another word.

    Names that contain a known name (``executed``), or that begin with ``_`` or a capital letter, count as other words.
    """
    if name in known or not name[:1].islower() or any(each in name for each in known):
        return None
    import difflib  # imported here: it takes 2 ms to load, and most classes do not need it

    # These cutoffs allow the method ``prove`` (ratio 0.8) and the flag ``timed_out`` (ratio 0.875).
    near = difflib.get_close_matches(name, known, 1, 0.85 if known is VERBS else 0.88)
    return near[0] if near else None


def check_settings(where: str, step: Any) -> None:
    """Check the settings of a step or of a step class.

    Raises:
        DefinitionError: A setting is out of range. The message has the setting, the step and the accepted values.
    """
    settings = {setting: getattr(step, setting) for setting in SETTINGS}
    if isinstance(step, type):
        settings = {setting: value for setting, value in settings.items() if not is_of_instances(value)}
    for setting in ("retry", "compensation_retry"):
        value = settings.get(setting)
        if value is not None and not isinstance(value, Retry):
            raise DefinitionError(f"{where}: {setting} must be a Retry, not {value!r}")
    for setting, above in (("timeout", True), ("grace", False)):
        if settings.get(setting) is not None:
            check_wait(f"{where}: {setting}", settings[setting], above=above)
    if settings.get("grace") is not None and settings.get("timeout", ...) is None:
        raise DefinitionError(f"{where}: grace has no effect without a timeout; set timeout too")
    label = settings.get("label")
    if label is not None and (not isinstance(label, str) or not label.strip()):
        raise DefinitionError(f"{where}: label must be a text for people, not {label!r}")
    for setting in ("overtake", "pivot", "repeatable"):
        if not isinstance(settings.get(setting, False), bool):
            raise DefinitionError(f"{where}: {setting} must be True or False, not {settings[setting]!r}")
    doubt_types(where, settings.get("in_doubt_on", ()), settings.get("no_effect_on", ()))


def is_of_instances(value: Any) -> bool:
    """Whether *value*, an attribute of a class, only declares an attribute of instances: a property, slot or field."""
    return hasattr(type(value), "__get__") or type(value).__module__.split(".")[0] in ("attr", "dataclasses")


DEFAULT_IN_DOUBT_ON: Final = (TimeoutError, ConnectionError)
DEFAULT_NO_EFFECT_ON: Final = (ConnectionRefusedError,)

Types = tuple[type[BaseException], ...]


def doubt_types(where: str, in_doubt_on: Any, no_effect_on: Any) -> tuple[Types, Types]:
    """The settings *in_doubt_on* and *no_effect_on* as two tuples of exception types.

    If a class is in both settings, and one setting is the default, the class is removed from the default.

    Raises:
        DefinitionError: A setting contains something other than exception types, or the step names a class in both
            settings.
    """
    doubt, sure = _types(where, "in_doubt_on", in_doubt_on), _types(where, "no_effect_on", no_effect_on)
    both = [kind for kind in doubt if kind in sure]
    if not both:
        return doubt, sure
    if in_doubt_on is DEFAULT_IN_DOUBT_ON:
        return tuple(kind for kind in doubt if kind not in both), sure
    if no_effect_on is DEFAULT_NO_EFFECT_ON:
        return doubt, tuple(kind for kind in sure if kind not in both)
    names = ", ".join(kind.__name__ for kind in both)
    raise DefinitionError(
        f"{where}: {names} is in in_doubt_on and in no_effect_on; after it, either the effect may have happened or it "
        f"has not. Remove it from one of them"
    )


def _types(where: str, setting: str, types: Any) -> Types:
    together = types if isinstance(types, tuple) else (types,)
    for each in together:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise DefinitionError(f"{where}: {setting} must be an exception type or a tuple of them, not {types!r}")
    return together


def callback_of(step: Any, verb: str) -> Callback | None:
    """The method *verb* of a step, after a check of its signature. None if there is no such method.

    *step* can also be a wait with a deciding function. Then *verb* is the name of the attribute with this function.

    Raises:
        DefinitionError: The method is not a function of ``(payload)`` or ``(payload, context)``.
    """
    function = getattr(step, verb, None)
    if function is None:
        return None
    label = label_of(function)
    if not callable(function):
        raise DefinitionError(f"{_what(step)}: {verb} must be a function, not {function!r}")
    plain = plain_signature(function)
    if plain is not None:
        takes_context, is_coroutine = plain
        return Callback(function, takes_context, is_coroutine, label, *_annotated(function))
    bare = function
    while isinstance(bare, functools.partial):
        bare = bare.func
    if inspect.isgeneratorfunction(bare) or inspect.isasyncgenfunction(bare):
        raise DefinitionError(f"{_what(step)}: {label} is a generator; it must return its result, not yield")
    is_coroutine = inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(
        getattr(type(bare), "__call__", None)  # noqa: B004 (the question is whether it is a coroutine function)
    )
    return Callback(function, _takes_context(step, verb, function, label), is_coroutine, label, *_annotated(bare))


def plain_signature(function: Any) -> tuple[bool, bool] | None:
    """Whether *function* takes a context, and whether it is a coroutine function. None if only `inspect` can decide.

    Most callbacks are plain functions or methods of ``(payload)`` or ``(payload, context)``. For these, reading the
    code object is ten times as fast as `inspect`.
    """
    bound = type(function) is MethodType
    bare = function.__func__ if bound else function
    if type(bare) is not FunctionType or bare.__dict__ or bare.__defaults__:
        return None
    code = bare.__code__
    taken = code.co_argcount - bound
    if code.co_flags & _UNUSUAL or code.co_kwonlyargcount or not 1 <= taken <= 2:
        return None
    return taken == 2, bool(code.co_flags & inspect.CO_COROUTINE)


_UNUSUAL: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _what(step: Any) -> str:
    kind = getattr(step, "kind", None)
    return f"{kind.value if isinstance(kind, Kind) else 'step'} {step.name!r}"


def _takes_context(step: Any, verb: str, function: Callable[..., Any], label: str) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        if inspect.ismethod(function):
            raise DefinitionError(
                f"{_what(step)}: {label} does not even take the step itself; "
                f"it must be {verb}(self, payload) or {verb}(self, payload, context)"
            ) from None
        return False  # a builtin without a signature, such as dict.get: it gets the payload
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    open_ended = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if keyword or len(required) > 2 or (not positional and not open_ended):
        shape = str(inspect.signature(function))
        raise DefinitionError(
            f"{_what(step)}: {verb} is {label}{shape}; it must take (payload) or (payload, context) "
            f"and nothing else that is required"
        )
    takes = len(positional) > 1 and (len(required) == 2 or positional[1].name == "context")
    bound = function.keywords if isinstance(function, functools.partial) else {}
    for parameter in parameters:
        if parameter in positional[: 1 + takes] or parameter.name in bound:
            continue
        if parameter.name in ("context", "ctx") or re.search(_CONTEXT, inspect.formatannotation(parameter.annotation)):
            raise DefinitionError(
                f"{_what(step)}: {label} would never be given its {parameter.name!r}; the context is the second "
                f"parameter, and is required or named 'context': {verb}(payload, context)"
            )
    return takes


_CONTEXT: Final = r"(?<![\w.])(?:fsm_mediator\.(?:\w+\.)*)?Context\b"
"""Matches `Context` in an annotation. A class ``Context`` of another library, with its module's name, does not match.
"""


def _annotated(function: Callable[..., Any]) -> tuple[Any, Any]:
    """The annotations of the result and of the payload of *function*. ``Any`` if there is no annotation."""
    call = function if inspect.isroutine(function) else getattr(type(function), "__call__", function)  # noqa: B004
    if not getattr(call, "__annotations__", True):
        return Any, Any
    try:
        hints = typing.get_type_hints(call)
    except Exception:  # for example, a name is only imported for type checkers; then values are plain JSON types
        return Any, Any
    bound = call is not function or type(call) is MethodType  # the first parameter of a method is the step itself
    code = getattr(getattr(call, "__func__", call), "__code__", None)
    names = () if code is None else code.co_varnames[: code.co_argcount][bound:]
    takes, returns = hints.get(names[0], Any) if names else Any, hints.get("return", Any)
    return Any if returns is None or returns is type(None) else returns, takes


def label_of(function: Any) -> str:
    """The qualified name of *function*, for messages and diagrams."""
    while isinstance(function, functools.partial):
        function = function.func
    label: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return "a lambda" if label.endswith("<lambda>") else label.rpartition("<locals>.")[2]
