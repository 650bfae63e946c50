"""The tree of errors: what went wrong, told so that a person knows what to change and a program what to do.

SuanliError
├── UsageError            the command or the job file is wrong           exit 2
├── ConfigurationError    a setting, a file or a tool is missing         exit 2
│   └── UnusableKeyError  a key cannot be read, unlocked or used         exit 3
├── ProtocolError         a paper, document or message breaks the rules  retry is useless
│   └── SignatureError    it was not signed by whom it says
├── NoMatchError          no offer fits                                  exit 4
├── FundsError            price, budget or funds                         exit 5
├── ChainError            the ledger                                     exit 6
│   ├── ChainUnavailableError   retry later
│   └── ChainRevertedError      the escrow said no: name and arguments
├── MarketError           the market said no (RFC 9457)
│   └── UnreachableError  market or provider cannot be reached; retry    exit 7
├── TimedOutError         a wait ended                                   exit 8
├── ExecutionError        a run could not be prepared, started or kept   (provider's side)
├── NotFoundError         no such job, lease, offer                      exit 102
└── IntegrityError        bytes are not what was signed or promised      exit 104
"""

from __future__ import annotations


class SuanliError(Exception):
    """Base of all errors that are not bugs. `code` is stable and the same on the wire and in `--json`."""

    code: str = "internal"
    title: str = "Something went wrong"
    exit_status: int = 1
    http_status: int = 500
    retryable: bool = False

    def __init__(self, detail: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        if code is not None:
            self.code = code

    def as_problem(self) -> dict[str, object]:
        """The error as the members of an RFC 9457 problem document."""
        return {
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "hint": self.hint,
            "retryable": self.retryable,
        }


class UsageError(SuanliError):
    """A command or a job file asks for something that does not exist or makes no sense."""

    code, title, exit_status, http_status = "usage", "The request cannot be used as it stands", 2, 422


class ConfigurationError(SuanliError):
    """A setting, a tool or a file is missing or wrong; the detail names the variable and the file."""

    code, title, exit_status = "configuration", "The configuration is incomplete", 2


class UnusableKeyError(ConfigurationError):
    """A key cannot be read, unlocked or used."""

    code, title, exit_status = "key", "The key cannot be used", 3


class ProtocolError(SuanliError):
    """A paper, document or message breaks the protocol's rules."""

    code, title, exit_status, http_status = "protocol", "A message breaks the rules", 2, 422


class SignatureError(ProtocolError):
    """A signature is missing, malformed, or not by the party that it should be by."""

    code, title, exit_status, http_status = "signature", "A signature does not hold", 3, 401


class NoMatchError(SuanliError):
    """No open offer meets the bid."""

    code, title, exit_status, http_status = "no_match", "No offer matches", 4, 409


class FundsError(SuanliError):
    """The price, the budget or the free money does not suffice."""

    code, title, exit_status, http_status = "funds", "The money does not suffice", 5, 402


class ChainError(SuanliError):
    """The ledger did not do what was asked."""

    code, title, exit_status, http_status = "chain", "The chain refused", 6, 502


class ChainUnavailableError(ChainError):
    """The chain endpoint cannot be reached or does not answer in time."""

    code, title, http_status, retryable = "chain_unavailable", "The chain cannot be reached", 503, True


class ChainRevertedError(ChainError):
    """A transaction reverted; `name` and `arguments` are the contract's own error."""

    code, title = "chain_reverted", "The escrow refused the call"

    def __init__(self, name: str, arguments: tuple[object, ...] = (), *, hint: str = "") -> None:
        text = ", ".join(str(argument) for argument in arguments)
        super().__init__(f"{name}({text})", hint=hint)
        self.name = name
        self.arguments = arguments


class MarketError(SuanliError):
    """The market refused a request; carries the problem that it sent."""

    code, title, exit_status, http_status = "market", "The market refused", 7, 409


class UnreachableError(MarketError):
    """The market or a provider cannot be reached, or broke off."""

    code, title, http_status, retryable = "unreachable", "Cannot be reached", 503, True


class TimedOutError(SuanliError):
    """A wait with a stated limit ended before what it waited for."""

    code, title, exit_status, http_status, retryable = "timed_out", "Timed out", 8, 504, True


class ExecutionError(SuanliError):
    """A run could not be prepared, started, watched or collected."""

    code, title, exit_status = "execution", "The run failed on the provider's side", 104


class NotFoundError(SuanliError):
    """There is no such job, lease, offer, bid or file."""

    code, title, exit_status, http_status = "not_found", "Not found", 102, 404


class IntegrityError(SuanliError):
    """Bytes are not those that were signed, digested or promised."""

    code, title, exit_status, http_status = "integrity", "The data is not what was promised", 104, 422
