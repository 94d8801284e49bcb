"""``python -m heygemd`` is the ``heygemd`` command."""

from heygemd.cli import main

raise SystemExit(main())
