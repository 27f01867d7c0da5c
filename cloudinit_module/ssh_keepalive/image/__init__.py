# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""The root of an image, and the module in it."""
