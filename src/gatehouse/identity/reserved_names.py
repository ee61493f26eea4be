"""Names that no account may have: a path of the server, or of its clients, starts with them."""

_WORDS = """
about account admin agents api apple-touch-icon.png ask assets auth avatars billing blog
buckets cas changelog chat collections contact dashboard datasets device docs download
enterprise explore favicon.ico feed framework generate generate_stream hardware health
healthz help hf-inference home html inference info invoke jobs join kernels learn legal lfs
login logout me metrics model models moderation new notifications oauth openapi.json
organizations orgs papers password ping pipeline pipelines posts pricing privacy raw readyz
redoc register repos resolve resources robots.txt root router search security sessions
settings shop signin signup sitemap sitemap.xml space spaces static stats status storage
subscribe support system t tags tasks teams telemetry terms token tokenize tokens tools
trending uploads user users v1 v2 version webhooks well-known whoami xet
"""

RESERVED_NAMES = frozenset(_WORDS.split())
