"""`python -m distill` is the console script `distill`."""

from distill.cli import main

raise SystemExit(main())
