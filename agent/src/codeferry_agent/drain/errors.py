"""Errors on the way of a file to S3, beside what S3 itself answers.

CodeferryError
└── DrainError
    ├── SettingsInvalid      2  an option or variable cannot be used
    ├── RootMissing          2  the directory to drain once is not there
    ├── RootLocked           1  another agent drains this root
    ├── CredentialsMissing   3  no usable credentials on a machine that is no instance
    ├── NameImpossible          no bucket or key of S3 can have this name
    ├── DirectoryUnreadable     a directory cannot be listed
    ├── OwnerUnknown            the own account is not known, so no bucket can be told to be its
    ├── ChecksumUnavailable                the store does not show that it holds the bytes
    └── NotNow                  nothing is wrong, but the file has to stay for this time
        ├── FileBusy            somebody has it open for writing
        ├── FileChanged         it is not the file any more that was looked at
        └── FileUnwatched       no lease here; it has to be seen unchanged a second time

What S3 answers is a TransferError of ``codeferry_transfer.errors``. The number is the exit
code of an error that ends the command.
"""

from __future__ import annotations

from codeferry_contracts.errors import CodeferryError


class DrainError(CodeferryError):
    """An error of the drain; ``exit_code`` is the command's when it ends it."""

    code = "drain_failed"
    exit_code = 1


class SettingsInvalid(DrainError):
    code = "settings_invalid"
    exit_code = 2


class RootMissing(DrainError):
    code = "root_missing"
    exit_code = 2


class RootLocked(DrainError):
    code = "root_locked"


class CredentialsMissing(DrainError):
    code = "credentials_missing"
    exit_code = 3


class NameImpossible(DrainError):
    code = "name_impossible"


class DirectoryUnreadable(DrainError):
    code = "directory_unreadable"


class OwnerUnknown(DrainError):
    code = "owner_unknown"


class ChecksumUnavailable(DrainError):
    code = "checksum_unavailable"


class NotNow(DrainError):
    code = "not_now"


class FileBusy(NotNow):
    code = "file_busy"


class FileChanged(NotNow):
    code = "file_changed"


class FileUnwatched(NotNow):
    code = "file_unwatched"
