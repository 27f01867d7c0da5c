# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""User-data on a laptop: read, judged and explained."""
