"""The error that a user can mend."""


class UserError(Exception):
  """A mistake that the user can mend: shown as one line, no traceback.

  The text says what was got, what was expected and how to mend it.
  """
