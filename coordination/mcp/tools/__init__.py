"""The tools: functions of a session, each over one operation of the facade."""
