"""``python -m heygemd`` is the ``heygemd`` command."""

from heygemd.cli.main import main

raise SystemExit(main())
