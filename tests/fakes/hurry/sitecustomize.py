"""Shorter waits for a daemon under test.  Found by Python through PYTHONPATH, in tests only.

``HURRY`` is JSON: by module, the names of its waits (``NAME``, or ``Class.field`` of a dataclass) and their seconds.
Nothing in heygemd knows of this.
"""

import importlib.machinery
import json
import os

_WAITS = json.loads(os.environ.get("HURRY", "{}"))
_exec = importlib.machinery.SourceFileLoader.exec_module


def _after_import(loader, module):
    _exec(loader, module)
    for name, seconds in _WAITS.get(module.__name__, {}).items():
        owner, _, field = name.partition(".")
        if field:
            _default(getattr(module, owner).__init__, field, seconds)
        elif hasattr(module, name):
            setattr(module, name, seconds)
        else:
            raise AttributeError(f"{module.__name__} has no {name} to be shortened")


def _default(function, name, seconds):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = list(function.__defaults__)
    defaults[names.index(name) - len(names)] = seconds
    function.__defaults__ = tuple(defaults)


importlib.machinery.SourceFileLoader.exec_module = _after_import
