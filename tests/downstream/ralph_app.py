"""What `stores.Ralph` serves: Ralph's own application, with a file that it may go on writing to.

Its backend for files is made for one write each, and has no setting for that.
"""

from ralph.backends.data.base import BaseOperationType
from ralph.backends.lrs.fs import FSLRSBackend

FSLRSBackend.default_operation_type = BaseOperationType.APPEND

from ralph.api import app  # noqa: E402, F401 - served by uvicorn, once its settings are there
