"""``python -m eventstore.embedded``."""

import sys

from eventstore.embedded.main import main

sys.exit(main())
