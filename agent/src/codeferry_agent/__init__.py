"""The part of Codeferry that runs on an instance.

``run`` is fetched by the SSM documents and imports nothing of the rest; ``drain`` is a service.
"""
