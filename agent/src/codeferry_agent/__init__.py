"""What of Codeferry runs on an instance.

``apply`` is also a program of its own: its text travels inside the SSM document, so it
imports nothing from here.
"""
