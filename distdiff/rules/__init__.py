"""Rules by users: functions that bring their own derivative.

`custom_jvp` and `custom_vjp` are JAX's, for functions of arrays nested in any way; `elemental` registers an operation
by its partial derivatives, elementwise or with core axes.  Inside a trace a call becomes one joint statement: the
function is called on plain arrays and may be anything, compiled code included.
"""

from .custom import custom_jvp, custom_vjp
from .registered import elemental

__all__ = ["custom_jvp", "custom_vjp", "elemental"]
