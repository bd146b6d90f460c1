"""Elementary functions, short enough to be inlined and accurate to float32's last digits.

A call of the C library's takes two to three times as long, most of it for saving registers and for special cases that
do not occur here.
"""

import math

import warp as wp

_TAU = wp.constant(2.0 * math.pi)
_PER_TAU = wp.constant(0.5 / math.pi)
# Taylor's coefficients of the sine after the first
_S3, _S5, _S7, _S9, _S11 = (wp.constant((-1.0) ** (n // 2) / math.factorial(n)) for n in (3, 5, 7, 9, 11))
# ... of 2^x after the first
_E1, _E2, _E3, _E4, _E5, _E6 = (wp.constant(math.log(2.0) ** n / math.factorial(n)) for n in range(1, 7))
# ... of log2 (1 + t) / (1 - t), which has odd powers only
_L1, _L3, _L5, _L7 = (wp.constant(2.0 / (n * math.log(2.0))) for n in (1, 3, 5, 7))
_ROOT_HALF = wp.constant(math.sqrt(0.5))


@wp.func
def fast_sin_turns(turns: float):
    """``sin(2 pi turns)`` to 2e-7."""
    rest = turns - wp.floor(turns + 0.5)
    x = _TAU * (0.25 - wp.abs(0.25 - wp.abs(rest)))  # from a quarter turn on it runs backwards
    y = x * x
    value = x * (1.0 + y * (_S3 + y * (_S5 + y * (_S7 + y * (_S9 + y * _S11)))))
    return wp.where(rest < 0.0, -value, value)


@wp.func
def fast_sin(angle: float):
    """The sine of an angle in radians."""
    return fast_sin_turns(_PER_TAU * angle)


@wp.func
def fast_cos(angle: float):
    """The cosine of an angle in radians."""
    return fast_sin_turns(_PER_TAU * angle + 0.25)


@wp.func
def fast_exp2(x: float):
    """2^x to 3e-7 of itself; 0 below the smallest normal number. x is at most 127."""
    whole = wp.floor(x + 0.5)
    f = x - whole
    value = 1.0 + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    scale = wp.cast((int(wp.max(whole, -127.0)) + 127) << 23, wp.float32)
    return value * scale


@wp.func
def fast_log2(x: float):
    """The binary logarithm of a positive normal number to 2e-7, or 2e-7 of itself where that is more."""
    # counted from the root of a half, the mantissa lies around 1
    bits = wp.cast(x, wp.int32) - wp.cast(_ROOT_HALF, wp.int32)
    whole = bits >> 23
    mantissa = wp.cast((bits & 0x7FFFFF) + wp.cast(_ROOT_HALF, wp.int32), wp.float32)
    t = (mantissa - 1.0) / (mantissa + 1.0)
    y = t * t
    return float(whole) + t * (_L1 + y * (_L3 + y * (_L5 + y * _L7)))


@wp.func
def fast_pow(base: float, exponent: float):
    """base^exponent, for a positive base."""
    return fast_exp2(exponent * fast_log2(base))
