"""A site that is laid out as the Open edX platform is, with stand-ins for the parts that matter.

Its settings are read in the platform's order: `common`, a YAML file, `production`, and then what a
deployment patches, in `settings`. The plugins that are installed take part as they do there.
"""
