# Writes OUTPUT, a header with PLASMID_COMMIT: the commit of the sources in SOURCE, "-dirty" after it where they differ
# from it. Leaves a file that says so already alone, so that nothing is compiled again.
execute_process(COMMAND git --no-optional-locks -C ${SOURCE} describe --always --abbrev=12 --dirty --exclude=*
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n#define PLASMID_COMMIT \"${commit}\"\n")
