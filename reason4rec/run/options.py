"""Options of steps: typed, in groups, from a command line and a YAML file; each knows whether it changes outputs.

A group is a frozen dataclass whose fields are made by `option`; its docstring is its heading in `--help`. A value is
that of the command line, or else of the file, or else of the dataset, or else the default, and `Resolved` says which.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import AllowInfNan, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from reason4rec.errors import InputError

Group = TypeVar("Group")
Count = NonNegativeInt
Positive = PositiveInt
Number = Annotated[float, AllowInfNan(False)]


@dataclass(frozen=True)
class Options:
    """A group of options."""

    facts: ClassVar[tuple[str, ...]] = ()
    """Facts of the dataset that decide the outputs of a step with this group."""
    execution: ClassVar[bool] = False
    """Whether a record says with which of these options a step ran."""

    def recorded(self) -> dict[str, object]:
        """The settings that decide an output, by the names that its record has."""
        settled = {one.name: getattr(self, one.name) for one in fields(self) if one.metadata["changes_output"]}
        return {name: value for name, value in settled.items() if name not in self._later()} | self.recorded_later()

    def recorded_later(self) -> dict[str, object]:
        """The settings that earlier versions did not have, where they are not the defaults."""
        return {one: getattr(self, one) for one, default in self._later().items() if getattr(self, one) != default}

    @classmethod
    def _later(cls) -> dict[str, object]:
        return {one.name: one.default for one in fields(cls) if one.metadata["later"]}


def option(
    default: object,
    help: str,
    *,
    changes_output: bool = True,
    fact: str = "",
    old_names: tuple[str, ...] = (),
    one_step: bool = False,
    later: bool = False,
    metavar: str | None = None,
) -> Field:
    """A field of a group.

    `changes_output` is False for what changes no output, such as where a model runs. `fact` names the fact of the
    dataset that stands in for the default. `old_names` keep working, with a note. A run of many steps refuses to hand
    one that is for `one_step` to more than one. One that came `later` is recorded only where it is not the default,
    so that what earlier versions made stays up to date.
    """
    known = {"help": help, "changes_output": changes_output, "fact": fact, "old_names": old_names}
    return field(default=default, metadata=known | {"one_step": one_step, "later": later, "metavar": metavar})


@dataclass(frozen=True)
class Resolved:
    """The values of all groups of a step, where each came from, and which were given to it."""

    groups: Mapping[type[Options], Options]
    origins: Mapping[str, str]

    def __getitem__(self, group: type[Group]) -> Group:
        """The values of a group."""
        return self.groups[group]

    def __contains__(self, group: type) -> bool:
        return group in self.groups

    def given(self, name: str) -> bool:
        """Whether an option was given, on the command line or in a file."""
        return self.origins.get(name) not in (None, "default", "dataset")


class Parser(argparse.ArgumentParser):
    """argparse's, with one heading a group, and the nearest known option where one is not known.

    `flags` are the words on the command line, by the name of the option, where the two differ. `command` is what a user
    writes before the options.
    """

    def __init__(
        self,
        doc: str,
        groups: Sequence[type[Options]],
        defaults: Mapping[str, object] | None = None,
        flags: Mapping[str, str] | None = None,
        command: str = "%(prog)s",
        epilog: str = "",
    ):
        super().__init__(
            usage=f"{command} [OPTION ...]",
            description=doc,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.known: set[str] = set()
        self.names = names_of(groups)
        self.flags = flags or {}
        for group in groups:
            heading = self.add_argument_group((group.__doc__ or "").strip().splitlines()[0].rstrip("."))
            for one in fields(group):
                if one.name not in self.known:
                    self._add(heading, group, one, (defaults or {}).get(one.name, one.default))

    def _add(self, heading: argparse._ArgumentGroup, group: type[Options], one: Field, default: object) -> None:
        self.known.add(one.name)
        hint = hints(group)[one.name]
        about = one.metadata["help"]
        if one.metadata["fact"]:
            about += " (default: the dataset's)"
        elif default not in (None, (), "", False):
            about += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
        more: dict[str, object] = {"help": about.replace("%", "%%"), "dest": one.name}
        if _is_switch(hint):
            more["action"] = argparse.BooleanOptionalAction
        else:
            more |= {"metavar": one.metadata["metavar"] or _metavar(hint, one.name)}
            more |= {"nargs": "*", "action": "extend"} if get_origin(_plain(hint)) is tuple else {}
        heading.add_argument(f"--{self.flags.get(one.name, one.name)}", **more)
        for old in set(one.metadata["old_names"]) - self.names:
            self.add_argument(f"--{old}", action=_renamed(one.name), dest=one.name, help=argparse.SUPPRESS)

    def error(self, message: str) -> None:
        """Ends in one line with exit code 2; an unknown option is told with the nearest known one."""
        if message.startswith("unrecognized arguments: "):
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            message = unknown_option(word, self.known)
        print(f"error: {message}; --help shows what there is", file=sys.stderr)
        sys.exit(2)


def unknown_option(word: str, known: Iterable[str]) -> str:
    """What is said of a word of a command line that no option has."""
    name = word.partition("=")[0].lstrip("-").removeprefix("no-")
    if not word.startswith("--"):
        return f"{word}: not an option; options begin with --"
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"unknown option {word.partition('=')[0]}{f', did you mean --{near[0]}?' if near else ''}"


@cache
def hints(group: type[Options]) -> dict[str, object]:
    """The types of a group's options by name."""
    return get_type_hints(group, include_extras=True)


def names_of(groups: Iterable[type[Options]]) -> set[str]:
    """The names of all options of groups."""
    return {one.name for group in groups for one in fields(group)}


def _plain(hint: object) -> object:
    """A type without its None."""
    if get_origin(hint) in (Union, UnionType):
        return next(one for one in get_args(hint) if one is not NoneType)
    return hint


def _is_switch(hint: object) -> bool:
    return _plain(hint) is bool


def _metavar(hint: object, name: str) -> str:
    hint = _plain(hint)
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return {int: "N", float: "X", Path: "PATH"}.get(hint, name.upper())


def _renamed(new: str) -> type[argparse.Action]:
    class Renamed(argparse.Action):
        def __call__(self, parser, namespace, values, option_string=None):
            print(f"note: {option_string} is now --{new}", file=sys.stderr)
            setattr(namespace, self.dest, values)

    return Renamed


def checked(group: type[Options], name: str, value: object, where: str) -> object:
    """A value as its option has it; InputError says what is wrong with it and where it stands."""
    hint = hints(group)[name]
    try:
        return TypeAdapter(hint).validate_python(tuple(value) if get_origin(_plain(hint)) is tuple else value)
    except (ValidationError, TypeError) as error:
        if isinstance(error, ValidationError) and error.errors()[0]["type"] == "greater_than":
            raise InputError(f"{where}: {value} is not at least 1") from None
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{where}: {value!r} is refused ({reason[:1].lower()}{reason[1:]})") from None


def resolve(
    groups: Sequence[type[Options]],
    command: Mapping[str, object],
    file: Mapping[str, object],
    file_name: str = "",
    defaults: Mapping[str, object] | None = None,
) -> Resolved:
    """The values of groups from a command line, then a file, then the defaults of this step, then those of the options.

    Facts of the dataset are filled in by `with_facts`, once it is known which dataset it is.
    """
    made: dict[type[Options], Options] = {}
    origins: dict[str, str] = {}
    for group in groups:
        values: dict[str, object] = {}
        for one in fields(group):
            if one.name in command:
                values[one.name] = checked(group, one.name, command[one.name], f"--{one.name}")
                origins[one.name] = "command line"
            elif one.name in file:
                values[one.name] = checked(group, one.name, file[one.name], f"{file_name}: {one.name}")
                origins[one.name] = file_name
            else:
                default = (defaults or {}).get(one.name, one.default)
                values[one.name] = None if default is MISSING else default
                origins.setdefault(one.name, "default")
        made[group] = group(**values)
    return Resolved(made, origins)


def with_facts(resolved: Resolved, facts: Mapping[str, object]) -> Resolved:
    """The values with the dataset's facts where an option has none of its own."""
    groups, origins = dict(resolved.groups), dict(resolved.origins)
    for group, values in resolved.groups.items():
        new = {
            one.name: facts[one.metadata["fact"]]
            for one in fields(group)
            if one.metadata["fact"] in facts and origins[one.name] == "default"
        }
        origins |= dict.fromkeys(new, "dataset")
        groups[group] = type(values)(**{one.name: getattr(values, one.name) for one in fields(group)} | new)
    return Resolved(groups, origins)


def read_file(path: Path, known: Iterable[str], steps: Iterable[str]) -> dict[str, object]:
    """A run's YAML file: options by name, and under `steps` those of single steps; InputError names an unknown one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise InputError(f"--config {path}: not YAML ({' '.join(str(error).split())})") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not isinstance(content.get("steps", {}), dict):
        raise InputError(f"--config {path}: expected options by name, and under `steps` those of single steps")
    known, steps = set(known), set(steps)
    for step, options in {"": content, **content.get("steps", {})}.items():
        if step and step not in steps:
            raise InputError(f"--config {path}: no step {step!r}; steps are named as in 2/5")
        if not isinstance(options, dict):
            raise InputError(f"--config {path}: under steps: {step}: expected options by name")
        for name in options:
            if name not in known and not (name == "steps" and not step):
                near = difflib.get_close_matches(str(name), sorted(known), n=1)
                hint = f", did you mean {near[0]}?" if near else ""
                raise InputError(f"--config {path}: {f'step {step}: ' if step else ''}unknown option {name!r}{hint}")
    return content


def for_step(content: Mapping[str, object], step: str) -> dict[str, object]:
    """What a run's file says for one step: what it says for all, and over it what it says for this one."""
    general = {name: value for name, value in content.items() if name != "steps"}
    return general | dict(content.get("steps", {}).get(step, {}))


def words(values: Mapping[str, object]) -> list[str]:
    """Values as words of a command line."""
    found: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{name}")
        elif isinstance(value, (list, tuple)):
            found += [f"--{name}", *map(str, value)]
        elif value is not None:
            # One word, so that a value that begins with a dash is no option.
            found.append(f"--{name}={value}")
    return found
