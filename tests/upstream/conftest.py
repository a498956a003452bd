# Licensed under a 3-clause BSD style license - see LICENSE
"""The plugins in this folder are loaded by name, in a process of their own, never collected."""

collect_ignore_glob = ['*.py']
