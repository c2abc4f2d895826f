# What every target of ours is compiled with. Third-party headers come in as SYSTEM, so warnings are
# ours and errors.
add_library(postern_options INTERFACE)
target_include_directories(postern_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(
  postern_options
  INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Wswitch-enum -Werror
            -Wno-missing-field-initializers # designated initialisers may leave out what has a default
            -fstack-protector-strong
            # ccache needs it to see precompiled headers
            $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)

# Sanitizers and coverage are chosen by preset: -DPOSTERN_SANITIZE=address,undefined
set(POSTERN_SANITIZE "" CACHE STRING "Value for -fsanitize=, empty for none")
if(POSTERN_SANITIZE)
  add_compile_options(-fsanitize=${POSTERN_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${POSTERN_SANITIZE})
  # Instrumented, GCC 12 inlines operator new of Asio's coroutine frames and not operator delete, and
  # takes them for no pair.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete>)
  if(POSTERN_SANITIZE MATCHES "thread")
    # GCC cannot instrument Asio's fences. What they order is also ordered by the scheduler's mutex,
    # which ThreadSanitizer does see.
    add_compile_options(-Wno-tsan)
  endif()
endif()
option(POSTERN_COVERAGE "Instrument for gcov" OFF)
if(POSTERN_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()

find_program(MOLD mold)
if(MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options(-fuse-ld=mold)
endif()

# postern_layer(NAME SOURCES... HEADERS... LINKS...): one static library for a layer, its headers
# checked to compile alone (target all_verify_interface_header_sets).
function(postern_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;HEADERS;LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES
                                ${arg_HEADERS})
  target_link_libraries(${name} PUBLIC postern_options ${arg_LINKS})
  set_target_properties(${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
endfunction()
