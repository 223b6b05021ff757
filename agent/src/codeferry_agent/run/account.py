"""Who a program runs as."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple


class Account(NamedTuple):
    """Who a program runs as; ``ids`` is None where we cannot or need not become them."""

    name: str
    home: str
    shell: str
    ids: tuple[int, int] | None

    @property
    def groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.ids[1]) if self.ids else []


def account_of(owner: tuple[int, int] | None, environ: Mapping[str, str]) -> Account:
    """The owner's account, or our own with the home directory we were given."""
    try:
        entry = pwd.getpwuid(owner[0] if owner else os.geteuid())
    except KeyError:  # of a user by number only
        return Account(str(os.geteuid()), environ.get("HOME", "/"), "/bin/sh", owner)
    home = entry.pw_dir if owner else environ.get("HOME", entry.pw_dir)
    return Account(entry.pw_name, home, entry.pw_shell or "/bin/sh", owner)


def become(account: Account) -> None:
    """Run as the account from here on; as ourselves where we cannot or need not become it."""
    if account.ids:
        os.setgroups(account.groups)
        os.setgid(account.ids[1])
        os.setuid(account.ids[0])
