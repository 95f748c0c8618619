"""
The ledger: the durable record of what is archived and removed, in SQLite.

It imports values and errors only, writes no log, and returns or raises.
"""

from popfetchd.ledger.copying import set_aside
from popfetchd.ledger.glimpse import Glimpse
from popfetchd.ledger.ledger import Ledger
from popfetchd.ledger.lock import AccountLock
from popfetchd.ledger.restoring import Restoring


__all__ = ["AccountLock", "Glimpse", "Ledger", "Restoring", "set_aside"]
