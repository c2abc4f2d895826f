# What `cmake --install` puts where. The places under the prefix are those of docs/man; with the
# prefix /usr they are the ones that Debian and systemd look into.
install(TARGETS posternd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS postern RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# The unit names the program by its whole path, and that is known only when the prefix is: at
# installation (`cmake --install --prefix`), not when this file is read.
install(
  CODE "
    set(POSTERND \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/posternd\")
    configure_file(\"${PROJECT_SOURCE_DIR}/systemd/posternd.service.in\"
                   \"${PROJECT_BINARY_DIR}/posternd.service\" @ONLY)")
install(FILES ${PROJECT_BINARY_DIR}/posternd.service DESTINATION lib/systemd/system)

install(FILES packaging/postern.toml DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(
  DIRECTORY docs/
  DESTINATION ${CMAKE_INSTALL_DOCDIR}
  FILES_MATCHING
  PATTERN "*.md"
  PATTERN "man" EXCLUDE)

foreach(section 1 5 8)
  file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.${section})
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()

set(completion ${PROJECT_SOURCE_DIR}/packaging/completion/postern.bash)
if(EXISTS ${completion})
  install(
    FILES ${completion}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    RENAME postern)
endif()
